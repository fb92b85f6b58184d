#!lua flags=no-writes
-- List a channel's workers.
--
-- ARGV  3 ms of silence after which a worker isn't listed
-- Returns  {id, ms since it was heard of, ...}
local found = call('ZRANGE', WORKERS, now - number(), '+inf', 'BYSCORE', 'WITHSCORES')
for i = 2, #found, 2 do
  found[i] = now - tonumber(found[i])
end
return found
