#!lua flags=allow-oom
-- Make no jobs of a schedule's slots until it is resumed.
--
-- ARGV  3 name; 4 ms that its state is kept without a worker that looks
-- Returns  1 when this paused it, 0 when it was paused already
-- A crash before it: nothing. After it, reply lost: a repeat changes nothing.
local key, keep = SCHEDULE .. take(), take()
local paused = call('HSETNX', key, 'paused', string.format('%.0f', now))
call('PEXPIRE', key, keep)
return paused
