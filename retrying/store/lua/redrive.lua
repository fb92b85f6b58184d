#!lua flags=allow-oom
-- Make dead letters ready again: their failures and rescues start over, their attempt numbers go on rising. With a pace
-- they are scheduled one after the other instead of all at once.
--
-- ARGV  3 ms between two of them, "" for all at once; 4 time (ms) before which none starts, "" for now; 5 number of jobs;
--       then their ids
-- Returns  {due time of the next one, {for each {the state it is in now, "" when there is no such job; the job that
--           holds its unique name: then it stays dead}}}
-- A crash before it: nothing. After it, reply lost: a repeat changes nothing.
local pace, due = tonumber(take()), math.max(tonumber(take()) or now, now)
local answers, changed = {}, false
for i = 1, number() do
  local id = take()
  local job = redis.pcall('HMGET', JOB .. id, 'state', 'topic', 'order')
  local state, other = job.err and 'succeeded' or job[1], nil
  if state == 'dead' then
    other = retake(id)
    if not other then
      state, due = revive(id, job[2], job[3], pace, due)
      tally(REDRIVEN)
      changed = true
    end
  end
  answers[i] = { state or '', other or '' }
end
if changed then
  record()
  ring() -- with a pace too: who looks learns when the first one is due
end
return { string.format('%.3f', due), answers }
