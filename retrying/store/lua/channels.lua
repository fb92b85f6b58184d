#!lua flags=no-writes
-- List the channels that are in use.
--
-- KEYS  1 see remember.lua
-- Returns  {channel, ...}, those heard of last first
return call('ZRANGE', KEYS[1], 0, -1, 'REV')
