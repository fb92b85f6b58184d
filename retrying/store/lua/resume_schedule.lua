#!lua flags=allow-oom
-- Make jobs of a schedule's slots again, from now on: those of the pause are not made up for.
--
-- ARGV  3 name
-- Returns  1 when this resumed it, 0 when it wasn't paused
-- A crash before it: nothing. After it, reply lost: a repeat changes nothing.
local key = SCHEDULE .. take()
local resumed = call('HDEL', key, 'paused')
if resumed == 1 then
  local mark = tonumber(call('HGET', key, 'mark') or 0)
  call('HSET', key, 'mark', string.format('%.0f', math.max(mark, now)))
end
return resumed
