#!lua flags=no-writes
-- List a channel's workers.
--
-- ARGV  3 ms of silence after which a worker isn't listed
-- Returns  {id, ms since it was heard of, what it said of itself or "", what it was told last or "", ...}
return live(number())
