#!lua flags=allow-oom
-- Cancel a job. A running one is asked to stop: its worker learns it with the next renewal.
--
-- ARGV  3 id; 4 reason
-- Returns  the state it is in now, "" when there is no such job
-- A crash before it: nothing. After it, reply lost: a repeat changes nothing.
local id, reason = take(), take()
local job = redis.pcall('HMGET', JOB .. id, 'state', 'topic')
if job.err then
  return 'succeeded'
end
local state = job[1]
if state == 'scheduled' or state == 'ready' then
  unqueue(id)
  finish(id, job[2], 'cancelled', reason)
  record()
  return 'cancelled'
elseif state == 'running' then
  call('HSET', JOB .. id, 'cancel', reason)
end
return state or ''
