#!lua flags=allow-oom
-- Resume a paused channel.
--
-- ARGV  none
-- Returns  1 when this resumed it, 0 when it wasn't paused
-- A crash before it: nothing. After it, reply lost: a repeat changes nothing.
local resumed = call('HDEL', META, 'paused')
if call('ZCARD', READY) > 0 then
  ring()
end
return resumed
