#!lua flags=allow-oom
-- For tests: shorten what is left of keys that end by themselves (tombstones, topics, unique names that are held for a time).
--
-- ARGV  3 ms; 4 number of keys; then for each "job" | "topic" | "unique", and its id or name
-- Returns  number of keys that ended
local ms, ended = number(), 0
local PREFIXES = { job = JOB, topic = TOPIC, unique = UNIQUE }
for _ = 1, number() do
  local key = PREFIXES[take()] .. take()
  local left = call('PTTL', key)
  if left >= 0 and left <= ms then
    call('DEL', key)
    ended = ended + 1
  elseif left >= 0 then
    call('PEXPIRE', key, string.format('%.0f', left - ms))
  end
end
return ended
