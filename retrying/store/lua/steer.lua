#!lua flags=allow-oom
-- Tell a worker something; it hears it with its next sweep of the channel.
--
-- ARGV  3 worker id; 4 word: "quiet", "work" or "stop"; 5 ms of silence after which a worker is gone; 6 ms to keep it
-- Returns  1, or 0 when there is no such worker: then nothing is kept
-- A crash before it: nothing. After it, reply lost: a repeat tells the worker the same once more.
local worker, word, silence, keep = take(), take(), number(), number()
local heard = call('ZSCORE', WORKERS, worker)
if not heard or tonumber(heard) < now - silence then
  return 0
end
call('SET', STATS .. 'told:' .. worker, string.format('%.0f %s', now, word), 'PX', keep)
return 1
