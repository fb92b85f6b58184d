#!lua flags=allow-oom
-- Take the turn to look for alerts: one worker at a time does, so that what flickers is told once.
--
-- KEYS  1 <prefix>:turn
-- ARGV  3 who asks; 4 ms for which nobody else gets it
-- Returns  1 when it is this worker's, else 0
-- A crash after it: the next turn comes when it ends. A repeat, reply lost, is this worker's turn still.
local worker = take()
if call('SET', KEYS[1], worker, 'NX', 'PX', take()) or call('GET', KEYS[1]) == worker then
  return 1
end
return 0
