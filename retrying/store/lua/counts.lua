#!lua flags=no-writes
-- Count a channel's jobs.
--
-- Returns  {scheduled, ready, running, dead, cancelled and expired and kept successes, age (ms) of the next ready job}
local head = call('ZRANGE', READY, 0, 0)[1]
local created = head and tonumber(read(head, 'created')[1] or now) or now
return {
  call('ZCARD', SCHEDULED), call('ZCARD', READY), call('ZCARD', LEASES), call('ZCARD', DEAD),
  call('ZCARD', FINISHED) + call('ZCARD', SUCCEEDED), now - created,
}
