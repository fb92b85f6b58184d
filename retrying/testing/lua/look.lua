#!lua flags=no-writes
-- For tests: what would still happen by itself, without time passing.
--
-- Returns  {jobs ready (0 while the channel is paused, or its rate holds for over a second), running, scheduled and due now
--          (and keys whose rate lets a job pass within a second), time of the last sweep or ""}
local meta = call('HMGET', META, 'paused', 'held')
return {
  (meta[1] or tonumber(meta[2] or 0) > now + 1000) and 0 or call('ZCARD', READY),
  call('ZCARD', LEASES),
  call('ZCOUNT', SCHEDULED, '-inf', now) + call('ZCOUNT', TURNS, '-inf', now + 1000),
  call('HGET', META, 'swept') or '',
}
