#!lua flags=allow-oom
-- End attempts that are to be tried again later: failures (charged) and snoozes (not charged).
--
-- ARGV  3 number of attempts; then for each id, token, delay (ms), "failures" | "snoozes", error text, its trace,
--       max retries or "", deadline (ms after it was enqueued) or "", message type or ""
-- Returns  for each {1 done | 0 repeated | -1 lease lost, due, or "" when its deadline or a cancel ended it instead}
-- A crash before it: the lease ends and the attempt counts as rescued. After it, reply lost: a repeat changes nothing.
local results = {}
for i = 1, number() do
  local id, token, delay, charge, error = take(), take(), number(), take(), take()
  local trace, max_retries, deadline, name = take(), take(), take(), take()
  local status = fence(id, token)
  local due = ''
  if status == 1 then
    local job = read(id, 'topic', 'attempt', 'cancel', 'created')
    unlease(id, token)
    local count = call('HINCRBY', JOB .. id, charge, 1)
    tally(charge == 'failures' and FAILED or SNOOZED)
    ran(id)
    call('HSET', JOB .. id, 'error', error, 'max_retries', max_retries)
    if charge == 'failures' then
      blame(id, job[2], trace)
    end
    if job[3] then
      finish(id, job[1], 'cancelled', job[3])
    elseif deadline ~= '' and now + delay > job[4] + deadline then
      bury(id, job[1], job[2], 'its deadline comes before its next attempt', error, class_of(error), name)
    else
      due = string.format('%.0f', now + delay)
      call('HSET', JOB .. id, 'state', 'scheduled', 'due', due)
      call('ZADD', SCHEDULED, due, id)
      if charge == 'failures' then
        tally(RETRIED)
        emit(id, job[1], 'retrying', 'attempt', job[2], 'failures', count, 'max_retries', max_retries, 'due', due, 'error', error)
      else
        emit(id, job[1], 'snoozed', 'attempt', job[2], 'due', due)
      end
    end
  end
  results[i] = { status, due }
end
record()
return results
