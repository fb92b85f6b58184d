#!lua flags=no-writes
-- For tests: a page of the jobs in READY, PARKED, SCHEDULED or DEAD, in their order, payloads included.
--
-- ARGV  3 "ready" | "parked" | "scheduled" | "dead"; 4 rank of the first; 5 most jobs to return
-- Returns  {{id, {field, value, ...}}, ...}
local key = ({ ready = READY, parked = PARKED, scheduled = SCHEDULED, dead = DEAD })[take()]
local first, limit = number(), number()
local jobs = {}
for i, id in ipairs(call('ZRANGE', key, first, first + limit - 1)) do
  jobs[i] = { id, call('HGETALL', JOB .. id) }
end
return jobs
