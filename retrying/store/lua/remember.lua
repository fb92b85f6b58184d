#!lua flags=allow-oom
-- Remember that a channel is in use: one that is sent to and that nobody names or consumes (a typo) would be invisible.
--
-- KEYS  1 the store's channels, by the time (ms) at which they were last sent to or swept; no channel's own key
-- ARGV  3 channel; 4 most channels to remember: those not heard of for longest are forgotten
-- Returns  1 when it is new, else 0
-- A crash before it: the next process that sends to the channel, or sweeps it, says it. After it: a repeat changes nothing.
local channel, most = take(), number()
local new = call('ZADD', KEYS[1], now, channel)
call('ZREMRANGEBYRANK', KEYS[1], 0, -most - 1)
return new
