#!lua flags=no-writes
-- Count a channel's jobs.
--
-- Returns  {scheduled, ready, running, dead, cancelled and expired and kept successes, ms that a job has been waiting,
--           kept successes}
return census()
