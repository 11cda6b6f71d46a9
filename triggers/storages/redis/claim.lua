-- Let a worker start an instance, and give it the firings that the instance holds.
--
-- ARGV[1]  client, ARGV[2] number of its commit, ARGV[3] '1' if this may be a repetition
-- ARGV[4]  the present in microseconds; empty: the server's
-- ARGV[5]  the instance, ARGV[6] the attempt's token as JSON
-- ARGV[7]  microseconds of its lease, ARGV[8] '1' to start even before the end of a cool-down
--
-- Whatever is not plain is answered with 'other': then the engine decides. Otherwise 'done', the
-- time, the digest of the configuration, the instance, and numbers and texts of the firings.

local client, number = ARGV[1], ARGV[2]
if ARGV[3] == '1' then
    local known = answer_again(client, number)
    if known then
        return known
    end
end

local known = redis.call('HMGET', head, 'rev', 'version', 'phase', 'seq', 'clock', 'digest')
if not known[1] or tonumber(known[2]) > NEWEST_VERSION then
    return 'other'
end
local now = present(ARGV[4], known[5])
local timer = redis.call('ZRANGE', head .. ':timers', 0, 0, 'WITHSCORES')
if timer[2] and tonumber(timer[2]) <= tonumber(now) then
    return 'other'
end

local text = redis.call('HGET', head .. ':b', ARGV[5])
if not text then
    return 'other'
end
local status, taken, decided_by, depth, attempt, rest = string.match(
    text,
    '^(%l+)\n([^\n]*)\n[^\n]*\n[^\n]*\n([^\n]*)\n([^\n]*)\n([^\n]*)\n[^\n]*\n(.*)$'
)
if status ~= 'scheduled' then
    return 'other'
end
local not_before = string.match(rest, '^' .. string.rep('[^\n]*\n', 7) .. '(%d+)\n')
if not_before and tonumber(not_before) > tonumber(now) and ARGV[8] ~= '1' then
    return 'other'
end

local due = after(now, tonumber(ARGV[7]))
local started = table.concat({'running', taken, now, due, decided_by, depth, tonumber(attempt) + 1,
    ARGV[6], rest}, '\n')
redis.call('HSET', head .. ':b', ARGV[5], started)
redis.call('HSET', head, 'clock', now, 'rev', client .. ':' .. number)
redis.call('ZADD', bucket .. 'due', due, member .. ' i:' .. ARGV[5])

note_answer(client, number, table.concat({'done', now, known[6] or '', started}, '\0'))
local answer = {'done', now, known[6] or '', started}
for _, seq in pairs(cjson.decode(taken)) do
    local firing = redis.call('HGET', head .. ':b', seq)
    if firing then
        answer[#answer + 1] = seq
        answer[#answer + 1] = firing
    end
end
return table.concat(answer, '\0')
