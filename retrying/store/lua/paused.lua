#!lua flags=no-writes
-- Tell whether a channel is paused.
--
-- ARGV  none
-- Returns  ms since it was paused, -1 when it isn't
local since = tonumber(call('HGET', META, 'paused') or nil)
return since and math.max(0, now - since) or -1
