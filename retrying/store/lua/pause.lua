#!lua flags=allow-oom
-- Pause a channel: nothing of it is claimed until it is resumed; running jobs end, new ones are stored.
--
-- ARGV  none
-- Returns  1 when this paused it, 0 when it was paused already
-- A crash before it: nothing. After it, reply lost: a repeat changes nothing.
return call('HSETNX', META, 'paused', now)
