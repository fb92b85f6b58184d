#!lua flags=allow-oom
-- Make dead letters ready again, those that died first first, a bounded number of them: the caller goes on while there
-- are more. With a pace they are scheduled one after the other instead of all at once. What died after the first batch
-- is left alone: a job that fails at once would be redriven for ever.
--
-- ARGV  3 token: random, new for every batch; 4 jobs wanted; 5 ms between two of them, "" for all at once;
--       6 and 7 "" at first, then the two times that the batch before returned; 8 letters to pass over: those left so far
--       because another job holds their unique name
-- Returns  "token count more before due skip": jobs redriven, 1 when there may be more, time (ms) up to which letters
--          count, due time of the next one, letters to pass over
-- A crash before it: nothing. After it, reply lost: a repeat finds its token in META and gets the same answer.
local token, wanted, pace, before, due = take(), number(), tonumber(take()), tonumber(take()), tonumber(take())
local skip = number()
local LIMIT = 200

local answer = call('HGET', META, 'redriven')
if answer and string.sub(answer, 1, #token + 1) == token .. ' ' then
  return answer
end
before = before or now
due = math.max(due or now, now)
wanted = math.min(wanted, LIMIT)
local ids = call('ZRANGE', DEAD, '-inf', before, 'BYSCORE', 'LIMIT', skip, wanted)
local count = 0
for _, id in ipairs(ids) do
  local job = read(id, 'state', 'topic', 'order')
  if job[1] ~= 'dead' then
    exhume(id)
  elseif retake(id) then
    skip = skip + 1
  else
    count = count + 1
    job[1], due = revive(id, job[2], job[3], pace, due)
  end
end
if count > 0 then
  tally(REDRIVEN, count)
  record()
  ring() -- with a pace too: who looks learns when the first one is due
end
answer = string.format('%s %d %d %.0f %.3f %d', token, count, #ids == wanted and 1 or 0, before, due, skip)
call('HSET', META, 'redriven', answer)
return answer
