#!lua flags=no-writes
-- Read a schedule's state.
--
-- ARGV  3 name
-- Returns  {now, since or "", mark or "", newest slot that was made a job or "", ms of its pause or ""}
local state = call('HMGET', SCHEDULE .. take(), 'since', 'mark', 'last', 'paused')
local found = { string.format('%.0f', now) }
for i = 1, 4 do
  found[i + 1] = state[i] or ''
end
return found
