#!lua flags=no-writes
-- Read one job.
--
-- ARGV  3 id
-- Returns  its fields {name, value, ...} without its payload and result, {} when there is no such job
local id = take()
local job = redis.pcall('HGETALL', JOB .. id)
if job.err then
  return { 'state', 'succeeded' }
end
local fields = {}
if call('ZSCORE', PARKED, id) then
  fields = { 'parked', '1' }
end
for i = 1, #job, 2 do
  if job[i] ~= 'payload' and job[i] ~= 'result' and job[i] ~= 'token' then
    fields[#fields + 1] = job[i]
    fields[#fields + 1] = job[i + 1]
  end
end
return fields
