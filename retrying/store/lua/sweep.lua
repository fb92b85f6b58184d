#!lua flags=allow-oom
-- What time alone moves on, a bounded piece of it; every worker of the channel calls it, there is no leader.
-- Also the worker's sign of life.
--
-- ARGV  3 worker id; 4 ms between sweeps; 5 rescues allowed; 6 ms to keep dead, cancelled and expired jobs;
--       7 successes to keep; 8 lease (ms); 9 what the worker says of itself, "" for nothing
-- Returns  {number promoted, number purged, number left for newer workers,
--           {for each job rescued or buried {id, worker that vanished, rescues, 1 if buried}}, what it was told last or ""}
-- A crash before or after it: the next sweep goes on.
local worker, interval, max_rescues, keep_ms, keep_succeeded, lease = take(), number(), number(), number(), number(), number()
local facts = take()
local LIMIT = 50 -- of each kind: all of them at once take the server less than 5 ms

if call('ZADD', WORKERS, now, worker) == 1 then -- a new one: time to forget old ones
  call('ZREMRANGEBYSCORE', WORKERS, '-inf', now - 86400000)
end
if facts ~= '' then
  call('SET', STATS .. 'worker:' .. worker, facts, 'PX', 4 * interval)
end

local promoted, told = 0, STATS .. 'told:' .. worker
-- An idle channel has none of these, and its workers look for ever.
local some = call('EXISTS', SCHEDULED, LEASES, NEWER, TURNS, RATES, DEAD, FINISHED, GROUPS, SUCCEEDED, told) > 0
if some then
  promoted = promote(LIMIT)
  for _, id in ipairs(call('ZRANGE', NEWER, 0, LIMIT - 1)) do
    local job = read(id, 'v', 'topic', 'order')
    if not job[1] then
      call('ZREM', NEWER, id)
    elseif tonumber(job[1]) <= FORMAT then -- an older worker left it for this one
      call('ZREM', NEWER, id)
      make_ready(id, job[2], job[3])
      promoted = promoted + 1
    end
  end
  for _, key in ipairs(call('ZRANGE', TURNS, '-inf', now, 'BYSCORE', 'LIMIT', 0, LIMIT)) do
    turn(key)
  end
  local full = call('ZCOUNT', RATES, '-inf', now * 1000) -- keys whose bucket is full again
  if full > 0 then
    call('ZREMRANGEBYRANK', RATES, 0, math.min(full, 10 * LIMIT) - 1)
  end
end
if promoted > 0 then
  ring()
end

-- When nothing swept for a while, the server itself may have stalled with the renewals of live workers waiting at its
-- door, or its clock was put forward: they get the time to come in (a renewal is due each sixth of a lease) before
-- anything is taken from them. A clock put back leaves leases that would outlive their workers by the jump: cut short.
local meta = call('HMGET', META, 'swept', 'grace')
local swept, grace = tonumber(meta[1] or now), tonumber(meta[2] or 0)
local put_back = now < swept
if put_back or (now - swept > 2 * interval and grace <= swept) then -- once: not each time it is late
  grace = now + math.max(interval, lease / 4)
  call('HSET', META, 'grace', string.format('%.0f', grace))
end
if put_back then
  for _, id in ipairs(call('ZRANGE', LEASES, '(' .. now + lease, '+inf', 'BYSCORE', 'LIMIT', 0, 100 * LIMIT)) do
    call('ZADD', LEASES, now + lease, id)
  end
end
call('HSET', META, 'swept', string.format('%.0f', now))

local rescued = {}
if some and now >= grace then
  for _, id in ipairs(call('ZRANGE', LEASES, '-inf', now, 'BYSCORE', 'LIMIT', 0, LIMIT)) do
    call('ZREM', LEASES, id)
    local job = read(id, 'state', 'topic', 'attempt', 'worker', 'cancel', 'order')
    if job[1] == 'running' then
      call('HSET', JOB .. id, 'token', '')
      release_key(id)
      blame(id, job[3], '')
      local rescues = call('HINCRBY', JOB .. id, 'rescues', 1)
      tally(RESCUED)
      emit(id, job[2], 'rescued', 'attempt', job[3], 'worker', job[4], 'rescues', rescues)
      local poison = rescues > max_rescues
      if poison then
        bury(id, job[2], job[3], 'poison: its worker vanished ' .. rescues .. ' times while running it', '', 'WorkerVanished')
      elseif job[5] then
        finish(id, job[2], 'cancelled', job[5])
      elseif rescues > 1 and rescues >= max_rescues - 1 then -- it, or one that ran beside it, kills workers
        call('HSET', JOB .. id, 'state', 'scheduled', 'due', now, 'apart', 1)
        call('ZADD', SCHEDULED, now, id)
        emit(id, job[2], 'scheduled', 'due', now)
      else
        make_ready(id, job[2], job[6])
      end
      rescued[#rescued + 1] = { id, job[4], rescues, poison and 1 or 0 }
    end
  end
  if #rescued > 0 then
    ring()
  end
end

local purged = 0
if some then
  for _, key in ipairs({ DEAD, FINISHED }) do
    for _, id in ipairs(call('ZRANGE', key, '-inf', now - keep_ms, 'BYSCORE', 'LIMIT', 0, LIMIT)) do
      if key == DEAD then
        exhume(id)
      end
      call('ZREM', key, id)
      forget(id)
      purged = purged + 1
    end
  end
  if call('ZCOUNT', DEAD, '-inf', now - keep_ms) == 0 then
    for _, group in ipairs(call('ZRANGE', GROUPS, '-inf', now - keep_ms, 'BYSCORE', 'LIMIT', 0, LIMIT)) do
      call('DEL', GROUPS .. ':' .. group) -- what it still holds was evicted, not purged
      call('ZREM', GROUPS, group)
    end
  end
  local surplus = call('ZCARD', SUCCEEDED) - keep_succeeded
  if surplus > 0 then
    local popped = call('ZPOPMIN', SUCCEEDED, math.min(surplus, LIMIT))
    for i = 1, #popped, 2 do
      if call('PTTL', JOB .. popped[i]) == -1 then -- else a result, which ends by itself
        forget(popped[i])
      end
      purged = purged + 1
    end
  end
end
record()
return { promoted, purged, some and call('ZCARD', NEWER) or 0, rescued, some and call('GET', told) or '' }
