-- What every script shares; the loader puts this between a script's shebang and its body.
--
-- The key map of a channel. All keys hold one hash tag, {channel}, so that a script is legal in Redis Cluster.
--   JOB..id      hash    one job; beside its fields of now, those of the attempts before, the newest HISTORY of them:
--                        worker:<n> (who ran it), error:<n> (what it raised; "" when its worker vanished), first (ms of
--                        the first start). After a success a string "succeeded:<token>" with a TTL (the tombstone), or,
--                        with a result to keep, the hash with its result and a TTL
--   READY        zset    ids by priority, then order of arrival
--   SCHEDULED    zset    ids by due time (ms)
--   LEASES       zset    ids of running jobs by the end of their lease (ms)
--   DEAD         zset    ids of dead letters by the time they died (ms)
--   FINISHED     zset    ids of cancelled and expired jobs by the time they ended (ms)
--   SUCCEEDED    zset    ids of succeeded jobs that KEEP_SUCCEEDED keeps, by the time they ended (ms)
--   WORKERS      zset    worker ids by the time they were last heard of (ms)
--   META         hash    seq (orders arrivals), paused, swept (ms of the last sweep), grace (ms until which none is reaped),
--                        redriven (the last redrive of many, to be repeatable), suspect (id whose turn it is; see promote)
--   BELL         list    at most one element: a hint for a blocking pop that READY holds something
--   NEWER        zset    ids of jobs of a newer format, left for a newer worker, by their order in READY
--   SCHEDULE..name  hash  a schedule: line (when its slots are), since (ms from which on that line counts), mark (the newest
--                        slot decided on, ms), last (the newest that became a job), paused (ms); TTL since a worker looked
--   TOPIC..name  stream  log of a topic, ids <epoch>-<offset>, capped, with a TTL; its key is also the pub/sub channel
--   UNIQUE..name string  id of the job that holds a unique name: lives as long as that job's hold, or has a TTL
--
-- Times are the server's, in ms. ARGV[1] and ARGV[2] cap a topic: events kept, and ms kept after the last event.
local JOB, READY, SCHEDULED, LEASES, DEAD, FINISHED = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local SUCCEEDED, WORKERS, META, BELL, TOPIC, NEWER = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local UNIQUE, SCHEDULE = KEYS[13], KEYS[14]
local FORMAT = 1 -- of a job's hash; what a job of a higher one means, only newer scripts know
local TURN_MS = 500 -- how soon a suspect that had to wait for another is looked at again
local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local cursor = 2
local function take() -- the next argument
  cursor = cursor + 1
  return ARGV[cursor]
end
local function number()
  return tonumber(take())
end

-- Fields of a job; nils when there is none or only a tombstone (a string: HMGET fails on it).
local function read(id, ...)
  local values = redis.pcall('HMGET', JOB .. id, ...)
  if values.err then
    return {}
  end
  return values
end

local function ring()
  if call('EXISTS', BELL) == 0 then
    call('LPUSH', BELL, '1')
  end
end

-- Append to the job's topic, if it has one. The rest: field, value, ...
local function append(id, topic, name, ...)
  if not topic or topic == '' then
    return
  end
  local key = TOPIC .. topic
  local last = call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  local entry
  if last then
    entry = string.match(last[1], '^%d+') .. '-*'
  else
    entry = string.format('%.0f-1', now) -- a new log: its birth is its epoch
  end
  call('XADD', key, 'MAXLEN', '~', ARGV[1], entry, 'job', id, 'name', name, 'at', now, ...)
end

-- Tell who listens that the topic, if there is one, has grown.
local function announce(topic, name)
  if topic and topic ~= '' then
    call('PEXPIRE', TOPIC .. topic, ARGV[2])
    call('PUBLISH', TOPIC .. topic, name)
  end
end

-- Append to the job's topic, if it has one, and tell who listens. The rest: field, value, ...
local function emit(id, topic, name, ...)
  append(id, topic, name, ...)
  announce(topic, name)
end

-- The fence: what holds the lease is the token, and only it may end the attempt.
--   1 it holds; 0 this very token already ended its attempt (a replayed request); -1 the lease was given away.
local function fence(id, token)
  local held = redis.pcall('HMGET', JOB .. id, 'token', 'settled')
  if held.err then
    return call('GET', JOB .. id) == 'succeeded:' .. token and 0 or -1
  elseif held[1] == token then
    return 1
  end
  return held[2] == token and 0 or -1
end

-- Take the job out of its attempt. The caller sets the state and puts it where it belongs.
local function unlease(id, token)
  call('ZREM', LEASES, id)
  call('HSET', JOB .. id, 'token', '', 'settled', token)
end

local function make_ready(id, topic, order)
  call('HSET', JOB .. id, 'state', 'ready')
  call('ZADD', READY, order, id)
  emit(id, topic, 'ready')
end

-- The job that holds a unique name, nil when it is free. One that is gone or has ended holds nothing, unless for a time.
local function holder(name)
  local id = call('GET', UNIQUE .. name)
  if id then
    local state = read(id, 'state')[1]
    if state == 'scheduled' or state == 'ready' or state == 'running' or call('PTTL', UNIQUE .. name) > 0 then
      return id
    end
  end
end

local function let_go(id, name)
  if call('GET', UNIQUE .. name) == id then
    call('DEL', UNIQUE .. name)
  end
end

-- The job has ended: what it held is free. A unique name that is held for a time stays.
local function ended(id)
  local job = read(id, 'unique', 'unique_until')
  if job[1] and job[2] ~= 'time' then
    let_go(id, job[1])
  end
end

-- Take a dead letter's unique name again. Returns the job that holds it meanwhile, if one does.
local function retake(id)
  local job = read(id, 'unique', 'unique_until')
  if job[1] and job[2] ~= 'time' then
    local other = holder(job[1])
    if other and other ~= id then
      return other
    end
    call('SET', UNIQUE .. job[1], id)
  end
end

-- Delete the job; the caller takes it out of its place.
local function forget(id)
  local name = read(id, 'unique')[1]
  if name then
    let_go(id, name)
  end
  call('DEL', JOB .. id)
end

local HISTORY = 20
-- Keep what an attempt raised.
local function blame(id, attempt, trace)
  call('HSET', JOB .. id, 'error:' .. attempt, trace)
end

-- A new attempt: what is known of the one before becomes history. The first attempt of a job has none to write.
local function remember(id, attempt, worker, started)
  call('HSET', JOB .. id, 'worker:' .. attempt - 1, worker)
  if attempt == 2 then
    call('HSET', JOB .. id, 'first', started)
  elseif attempt > HISTORY then
    call('HDEL', JOB .. id, 'worker:' .. attempt - HISTORY, 'error:' .. attempt - HISTORY)
  end
end

local function bury(id, topic, attempt, reason, error)
  call('HSET', JOB .. id, 'state', 'dead', 'finished', now, 'reason', reason)
  call('ZADD', DEAD, now, id)
  ended(id)
  emit(id, topic, 'dead', 'attempt', attempt, 'reason', reason, 'error', error)
end

local function finish(id, topic, state, reason)
  call('HSET', JOB .. id, 'state', state, 'finished', now, 'reason', reason)
  call('ZADD', FINISHED, now, id)
  ended(id)
  emit(id, topic, state, 'reason', reason)
end

-- Store a new job, whose id is unknown. Options: priority, due (ms), expires (ms from now) or "", and, "" or nil when
-- there is none, topic, policy, unique (a free name) and hold ("" until it ends, "started", or ms). Returns its state. The caller rings when it is ready.
local function create(id, payload, options)
  -- 100 - priority in the high bits and the order of arrival in the low 44: exact in a double.
  local order = string.format('%.0f', (100 - options.priority) * 2 ^ 44 + call('HINCRBY', META, 'seq', 1))
  local state = options.due > now and 'scheduled' or 'ready'
  call('HSET', JOB .. id, 'v', FORMAT, 'state', state, 'payload', payload, 'order', order, 'created', now)
  if options.priority ~= 0 then
    call('HSET', JOB .. id, 'priority', options.priority)
  end
  if options.expires ~= '' then
    call('HSET', JOB .. id, 'expires', string.format('%.0f', now + tonumber(options.expires)))
  end
  for _, name in ipairs({ 'topic', 'policy', 'unique' }) do
    if options[name] and options[name] ~= '' then
      call('HSET', JOB .. id, name, options[name])
    end
  end
  if options.unique and options.unique ~= '' then
    call('SET', UNIQUE .. options.unique, id)
    if options.hold == 'started' then
      call('HSET', JOB .. id, 'unique_until', 'started')
    elseif options.hold ~= '' then
      call('HSET', JOB .. id, 'unique_until', 'time')
      call('PEXPIRE', UNIQUE .. options.unique, options.hold)
    end
  end
  if state == 'scheduled' then
    local due = string.format('%.0f', options.due)
    call('HSET', JOB .. id, 'due', due)
    call('ZADD', SCHEDULED, due, id)
    emit(id, options.topic, 'scheduled', 'due', due)
  else
    call('ZADD', READY, order, id)
    emit(id, options.topic, 'ready')
  end
  return state
end

-- Suspects (rescued so often that the next time may be the last) run apart: one of them at a time is ready or running, so
-- that the one that kills its workers can't take the others along once more.
local function has_turn(id)
  local other = call('HGET', META, 'suspect')
  if other and other ~= id and (call('ZSCORE', LEASES, other) or call('ZSCORE', READY, other)) then
    return false
  end
  call('HSET', META, 'suspect', id)
  return true
end

-- Move due jobs to READY, at most `limit`. Returns how many.
local function promote(limit)
  local due = call('ZRANGE', SCHEDULED, '-inf', now, 'BYSCORE', 'LIMIT', 0, limit)
  local count = 0
  for _, id in ipairs(due) do
    local job = read(id, 'order', 'topic', 'apart')
    if job[3] and not has_turn(id) then
      call('ZADD', SCHEDULED, now + TURN_MS, id) -- looked at again then; its due time stays, it tells who waits longest
    else
      call('ZREM', SCHEDULED, id)
      if job[1] then
        make_ready(id, job[2], job[1])
        count = count + 1
      end
    end
  end
  return count
end
