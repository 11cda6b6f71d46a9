-- Write what a decision changes, if the session is still as the decision saw it.
--
-- ARGV[1]  client, ARGV[2] number of its commit, ARGV[3] '1' if this may be a repetition
-- ARGV[4]  the revision that was read; empty: there was no session
-- ARGV[5]  what happens less often, as JSON; empty: nothing of it
--          timers   true if what time changes has changed
--          plan     digests of the old and the new configuration, and its text
--          lists    what becomes of the session in the list of its bucket: 'listed' or 'gone'
-- ARGV[6]  commands, each after the number of its words; all of it words that end with a NUL. In
--          place of the key stands the part of the session, or '!' and that of the bucket
--
-- Answers 'done', or 'conflict' if somebody else was faster.

local client, number = ARGV[1], ARGV[2]
if ARGV[3] == '1' then
    local known = answer_again(client, number)
    if known then
        return known
    end
end

local rev = redis.call('HGET', head, 'rev')
if (rev or '') ~= ARGV[4] then
    return 'conflict'
end
local change = ARGV[5] ~= '' and cjson.decode(ARGV[5]) or {}

if change.lists == 'gone' then
    local members = {}
    for _, name in ipairs(redis.call('SMEMBERS', head .. ':a')) do
        members[#members + 1] = member .. ' i:' .. name
    end
    for _, ref in ipairs(redis.call('HKEYS', head .. ':p')) do
        members[#members + 1] = member .. ' p:' .. ref
    end
    for start = 1, #members, 1000 do
        redis.call('ZREM', bucket .. 'due', unpack(members, start, math.min(start + 999, #members)))
    end
end
local words, last, size = {}, 0, 0
for word in string.gmatch(ARGV[6], '([^%z]*)%z') do
    if size == 0 then
        last, size = 0, tonumber(word)
    else
        last = last + 1
        if last == 2 then
            word = string.sub(word, 1, 1) == '!' and bucket .. string.sub(word, 2) or head .. word
        end
        words[last] = word
        if last == size then
            redis.call(unpack(words, 1, size))
            size = 0
        end
    end
end

if change.plan then
    local old, new, text = unpack(change.plan)
    if new ~= '' then
        redis.call('HSET', bucket .. 'plan:' .. new, 'text', text)
        redis.call('HINCRBY', bucket .. 'plan:' .. new, 'sessions', 1)
    end
    if old ~= '' and redis.call('HINCRBY', bucket .. 'plan:' .. old, 'sessions', -1) <= 0 then
        redis.call('DEL', bucket .. 'plan:' .. old)
    end
end
if change.timers then
    -- The bucket knows of each session what time changes first in it.
    local first = redis.call('ZRANGE', head .. ':timers', 0, 0, 'WITHSCORES')
    if first[2] then
        redis.call('ZADD', bucket .. 'timers', first[2], member)
    else
        redis.call('ZREM', bucket .. 'timers', member)
    end
end
if change.lists == 'gone' then
    redis.call('ZREM', bucket .. 'sessions', member)
elseif change.lists == 'listed' then
    redis.call('ZADD', bucket .. 'sessions', 0, member)
end
return note_answer(client, number, 'done')
