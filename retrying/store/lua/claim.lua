#!lua flags=allow-oom
-- End attempts that succeeded, then lease ready jobs to a worker: the worker's one round trip per batch.
--
-- ARGV  3 worker id; 4 token: random, new for every claim, the proof of the leases it gives; 5 lease (ms); 6 jobs wanted;
--       7 "1" when this claim is repeated because its reply was lost; 8 ms to keep tombstones; 9 successes to keep;
--       10 most jobs of the channel that may run at once over all workers, "" without limit;
--       11 number of successes; then for each its id, token, result, and ms to keep the result (0: only a tombstone)
-- Returns  {now, next due time or "", {for each success 1 done | 0 repeated | -1 lease lost},
--           {for each job {id, payload, attempt, failures, rescues, releases, created, priority, policy, topic, worker before}}}
-- A crash before it: the successes run again when their leases end. After it, reply lost: a repeat gets the same jobs.
local worker, token, lease, wanted, repeated = take(), take(), number(), number(), take()
local tombstone, keep, limit, successes = take(), number(), tonumber(take()), number()

local settled = {}
for i = 1, successes do
  local id, held, result, ttl = take(), take(), take(), number()
  local status = fence(id, held)
  if status == 1 then
    local job = read(id, 'topic', 'attempt', 'unique')
    if job[3] then
      ended(id)
    end
    if keep > 0 or ttl > 0 then
      unlease(id, held)
      call('HSET', JOB .. id, 'state', 'succeeded', 'finished', now)
      if keep > 0 then
        call('ZADD', SUCCEEDED, now, id)
      end
      if ttl > 0 then
        call('HSET', JOB .. id, 'result', result)
        call('PEXPIRE', JOB .. id, ttl)
      end
    else
      call('ZREM', LEASES, id)
      call('SET', JOB .. id, 'succeeded:' .. held, 'PX', tombstone)
    end
    emit(id, job[1], 'succeeded', 'attempt', job[2])
  end
  settled[i] = status
end

local jobs = {}
local function add(id)
  local job = read(id, 'payload', 'attempt', 'failures', 'rescues', 'releases', 'created', 'priority', 'policy', 'topic', 'worker')
  jobs[#jobs + 1] = {
    id, job[1], job[2], job[3] or '0', job[4] or '0', job[5] or '0', job[6], job[7] or '0', job[8] or '', job[9] or '', job[10] or '',
  }
end

if repeated == '1' then
  for _, id in ipairs(call('ZRANGE', LEASES, 0, -1)) do
    if read(id, 'token')[1] == token then
      call('ZADD', LEASES, now + lease, id)
      add(id)
    end
  end
  wanted = wanted - #jobs
end

local next_due = call('ZRANGE', SCHEDULED, 0, 0, 'WITHSCORES')[2]
if next_due and tonumber(next_due) <= now then
  promote(100 + wanted)
  next_due = call('ZRANGE', SCHEDULED, 0, 0, 'WITHSCORES')[2]
end

if limit then
  wanted = math.max(0, math.min(wanted, limit - call('ZCARD', LEASES)))
end

-- Lease a job that READY held. Returns 1, or 0 when it was none to run: expired, of a newer format, evicted.
local function begin(id, order)
  local job = read(id, 'state', 'topic', 'expires', 'attempt', 'v', 'unique_until', 'worker', 'started')
  if job[1] ~= 'ready' then
    return 0
  elseif tonumber(job[5]) > FORMAT then
    call('ZADD', NEWER, order, id)
    return 0
  elseif job[3] and not job[4] and tonumber(job[3]) <= now then
    finish(id, job[2], 'expired', 'expired before its first attempt')
    return 0
  end
  local attempt = call('HINCRBY', JOB .. id, 'attempt', 1)
  if job[6] == 'started' then
    let_go(id, read(id, 'unique')[1])
  end
  add(id)
  if job[4] then
    remember(id, attempt, job[7], job[8])
  end
  call('HSET', JOB .. id, 'state', 'running', 'token', token, 'worker', worker, 'started', now)
  call('ZADD', LEASES, now + lease, id)
  emit(id, job[2], 'running', 'attempt', attempt, 'worker', worker)
  return 1
end

-- What can't be run takes nobody's place: a claim that came back empty because of it would make the worker wait.
local taken, looked = 0, 0
local most = call('HEXISTS', META, 'paused') == 0 and wanted + 500 or 0
while taken < wanted and looked < most do
  local popped = call('ZPOPMIN', READY, wanted - taken)
  if #popped == 0 then
    break
  end
  for i = 1, #popped, 2 do
    taken, looked = taken + begin(popped[i], popped[i + 1]), looked + 1
  end
end
if (taken >= wanted or looked >= most and most > 0) and call('ZCARD', READY) > 0 and not (limit and call('ZCARD', LEASES) >= limit) then
  ring() -- this worker took all it can (or heard a bell that it has no room for): the rest is for somebody else
end
return { now, next_due or '', settled, jobs }
