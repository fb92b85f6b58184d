#!lua flags=allow-oom
-- A worker says goodbye: it is no longer listed. Without it (killed) the list forgets the worker by itself.
--
-- ARGV  3 worker id
-- Returns  1 when it was listed, else 0
local worker = take()
call('DEL', STATS .. 'worker:' .. worker, STATS .. 'told:' .. worker)
return call('ZREM', WORKERS, worker)
