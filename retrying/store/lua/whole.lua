#!lua flags=no-writes
-- Read one job whole: payload, result, and the history of its attempts.
--
-- ARGV  3 id
-- Returns  its fields {name, value, ...}, {} when there is no such job or only its tombstone
local job = redis.pcall('HGETALL', JOB .. take())
return job.err and {} or job
