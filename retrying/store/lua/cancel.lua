#!lua flags=allow-oom
-- Cancel jobs. A running one is asked to stop: its worker learns it with the next renewal.
--
-- ARGV  3 reason; 4 number of jobs; then their ids
-- Returns  for each the state it is in now, "" when there is no such job
-- A crash before it: nothing. After it, reply lost: a repeat changes nothing.
local reason, states = take(), {}
for i = 1, number() do
  local id = take()
  local job = redis.pcall('HMGET', JOB .. id, 'state', 'topic')
  local state = job.err and 'succeeded' or job[1]
  if state == 'scheduled' or state == 'ready' then
    unqueue(id)
    finish(id, job[2], 'cancelled', reason)
    state = 'cancelled'
  elseif state == 'running' then
    call('HSET', JOB .. id, 'cancel', reason)
  end
  states[i] = state or ''
end
record()
return states
