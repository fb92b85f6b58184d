#!lua flags=no-writes
-- List the alerts that are raised.
--
-- KEYS  1 see alarm.lua
-- Returns  {name, ms since the epoch at which it was raised, ...}
local found = {}
local alerts = call('HGETALL', KEYS[1])
for i = 1, #alerts, 2 do
  if alerts[i] ~= '' then
    found[#found + 1] = alerts[i]
    found[#found + 1] = alerts[i + 1]
  end
end
return found
