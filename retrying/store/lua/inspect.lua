#!lua flags=no-writes
-- Read one job with all that is kept of it.
--
-- ARGV  3 id
-- Returns  {now, end of its lease (ms) or "", {name, value, ...}}: without its result; {} for the last when there is none
local id = take()
local job = redis.pcall('HGETALL', JOB .. id)
local fields = {}
if job.err then
  fields = { 'state', 'succeeded' }
else
  for i = 1, #job, 2 do
    if job[i] ~= 'result' and job[i] ~= 'token' then
      fields[#fields + 1] = job[i]
      fields[#fields + 1] = job[i + 1]
    end
  end
end
if call('ZSCORE', PARKED, id) then
  fields[#fields + 1] = 'parked'
  fields[#fields + 1] = '1'
end
return { now, call('ZSCORE', LEASES, id) or '', fields }
