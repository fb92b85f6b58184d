#!lua flags=no-writes
-- For tests: what would still happen by itself, without time passing.
--
-- Returns  {jobs ready (0 while the channel is paused), running, scheduled and due now, time of the last sweep or ""}
return {
  call('HEXISTS', META, 'paused') == 0 and call('ZCARD', READY) or 0,
  call('ZCARD', LEASES),
  call('ZCOUNT', SCHEDULED, '-inf', now),
  call('HGET', META, 'swept') or '',
}
