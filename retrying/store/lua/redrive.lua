#!lua flags=allow-oom
-- Make a dead letter ready again: its failures and rescues start over, its attempt number goes on rising.
--
-- ARGV  3 id
-- Returns  {the state it is in now, "" when there is no such job; the job that holds its unique name: then it stays dead}
-- A crash before it: nothing. After it, reply lost: a repeat changes nothing.
local id = take()
local job = redis.pcall('HMGET', JOB .. id, 'state', 'topic', 'order')
if job.err then
  return { 'succeeded', '' }
elseif job[1] == 'dead' then
  local other = retake(id)
  if other then
    return { 'dead', other }
  end
  call('ZREM', DEAD, id)
  call('HDEL', JOB .. id, 'failures', 'rescues', 'apart', 'reason', 'finished', 'cancel')
  make_ready(id, job[2], job[3])
  tally(REDRIVEN)
  record()
  ring()
  return { 'ready', '' }
end
return { job[1] or '', '' }
