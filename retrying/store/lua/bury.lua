#!lua flags=allow-oom
-- End attempts whose job is given up: it becomes a dead letter.
--
-- ARGV  3 number of attempts; then for each id, token, reason, error text, its trace, max retries or "", message type or ""
-- Returns  for each 1 done | 0 repeated | -1 lease lost
-- A crash before it: the lease ends and the attempt counts as rescued. After it, reply lost: a repeat changes nothing.
local results = {}
for i = 1, number() do
  local id, token, reason, error, trace, max_retries, name = take(), take(), take(), take(), take(), take(), take()
  local status = fence(id, token)
  if status == 1 then
    local job = read(id, 'topic', 'attempt')
    unlease(id, token)
    call('HINCRBY', JOB .. id, 'failures', 1)
    call('HSET', JOB .. id, 'error', error, 'max_retries', max_retries)
    blame(id, job[2], trace)
    tally(FAILED)
    ran(id)
    bury(id, job[1], job[2], reason, error, class_of(error), name)
  end
  results[i] = status
end
record()
return results
