#!lua flags=allow-oom
-- Say which alerts there are now, and learn which of them are new and which are over: whoever says it first tells.
--
-- KEYS  1 <prefix>:alerts, the alerts that are raised, by name, with the time (ms); "" holds the last answer
-- ARGV  3 token: random, new for every look; 4 ms to keep them when nobody looks any more; 5 number of alerts; then
--       their names
-- Returns  {{names of the new ones}, {names of those that are over}}
-- A crash before it: the next look finds the same. After it, reply lost: a repeat finds its token and gets the same.
local token, keep, raised, new, over = take(), number(), {}, {}, {}
local last = call('HGET', KEYS[1], '')
last = last and cmsgpack.unpack(last)
if last and last[1] == token then
  return { last[2], last[3] }
end
for _ = 1, number() do
  local name = take()
  raised[name] = true
  if call('HSETNX', KEYS[1], name, string.format('%.0f', now)) == 1 then
    new[#new + 1] = name
  end
end
for _, name in ipairs(call('HKEYS', KEYS[1])) do
  if name ~= '' and not raised[name] then
    call('HDEL', KEYS[1], name)
    over[#over + 1] = name
  end
end
call('HSET', KEYS[1], '', cmsgpack.pack({ token, new, over }))
call('PEXPIRE', KEYS[1], keep)
return { new, over }
