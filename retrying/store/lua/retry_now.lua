#!lua flags=allow-oom
-- Make a scheduled job ready at once.
--
-- ARGV  3 id
-- Returns  the state it is in now, "" when there is no such job
-- A crash before it: nothing. After it, reply lost: a repeat changes nothing.
local id = take()
local job = redis.pcall('HMGET', JOB .. id, 'state', 'topic', 'order')
if job.err then
  return 'succeeded'
elseif job[1] == 'scheduled' then
  call('ZREM', SCHEDULED, id)
  make_ready(id, job[2], job[3])
  ring()
  return 'ready'
end
return job[1] or ''
