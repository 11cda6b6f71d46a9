-- Decide and commit a plain firing, or the finish of an attempt with the firing that it brings.
--
-- ARGV[1]  client, ARGV[2] number of its commit, ARGV[3] '1' if this may be a repetition
-- ARGV[4]  the present in microseconds; empty: the server's
-- ARGV[5]  the firing, without its time
-- ARGV[6]  how many firings the session may have recorded before; empty: any number
-- ARGV[7]  field of the idempotency key; empty: none
-- ARGV[8]  the slice of the compiled configuration that concerns this trigger (see slices.py)
-- ARGV[9]  the instance that finishes; absent: this is a firing from outside
-- ARGV[10] its token, ARGV[11] its result, ARGV[12] metadata to add; all JSON
--
-- This says in Lua what triggers/engine/rules.py says in Python, for tasks whose conditions are
-- lists of names. Whatever is not plain is answered with 'other' before anything is written: then
-- the engine decides. 'stale' and a digest: the session has another configuration. Otherwise
-- 'done', the time, the sequence number, and what has become of which instances.

local client, number = ARGV[1], ARGV[2]
if ARGV[3] == '1' then
    local known = answer_again(client, number)
    if known then
        return known
    end
end

local slice, finishing = cjson.decode(ARGV[8]), ARGV[9]
local known = redis.call(
    'HMGET', head, 'rev', 'version', 'phase', 'seq', 'clock', 'digest', unpack(slice.fields)
)
local first_field = 6
local goes_on = known[3] == 'open' or known[3] == 'closed' and finishing
if not known[1] or tonumber(known[2]) > NEWEST_VERSION or not goes_on then
    return 'other'
end
if (known[6] or '') ~= slice.digest then
    return 'stale\0' .. (known[6] or '')
end
local now = present(ARGV[4], known[5])
local seq = tonumber(known[4]) + 1
if ARGV[6] ~= '' and seq > tonumber(ARGV[6]) then
    return 'other'
end
if ARGV[7] ~= '' and redis.call('HEXISTS', head .. ':k', ARGV[7]) == 1 then
    return 'other'
end
if slice.is_timed then
    local timer = redis.call('ZRANGE', head .. ':timers', 0, 0, 'WITHSCORES')
    if timer[2] and tonumber(timer[2]) <= tonumber(now) then
        return 'other'
    end
end

-- An instance's lines: those that are looked at here, and the rest (see records.py).
local lines = '^(%l+)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n'
    .. '([^\n]*)\n([^\n]*)\n([^\n]*)\n(.*)$'

local depth = 0
local body = {}                             -- instances and firings, to be written
local fields = {slice.latest, seq}          -- of the head, to be written
local created, scheduled, abandoned = {}, {}, {}
local opened, closed = {}, {}               -- who waits from now on, who no more: parts and names
local finished
local texts = {}                            -- where the text of a scheduled instance is

if finishing then
    local text = redis.call('HGET', head .. ':b', finishing)
    if not text then
        return 'other'
    end
    local status, taken, _, _, decided_by, led_by, attempt, token, told, metadata, _, rest =
        string.match(text, lines)
    local lineage = string.match(rest, '^%d+\n(%d+)\n')
    if status ~= 'running' or token ~= ARGV[10] or tonumber(led_by) >= MOST_CASCADES
        or told ~= '' or lineage ~= string.match(finishing, '%d+$')
        or metadata ~= '' and ARGV[12] ~= ''
    then
        return 'other'
    end
    depth = tonumber(led_by) + 1
    local before = table.concat({'finished', taken, now, '', decided_by, led_by, attempt, '',
        slice.told or '', metadata .. ARGV[12]}, '\n')
    body = {finishing, before .. '\n' .. ARGV[11] .. '\n' .. rest}
    -- The worker knows the result; it need not be sent back.
    finished = before .. '\n\n' .. rest
end

-- What becomes of an instance that holds the firing and these other names; nothing if that is not
-- for this script to say.
local function settle(task, name, held, metadata)
    local is_ready, is_barred = true, task.can_be_barred
    for _, other in ipairs(task.others) do
        if not held[other.name] then
            is_ready = is_ready and not other.is_needed
            is_barred = is_barred and not other.bars
        end
    end
    if is_barred then
        if task.is_heard or depth >= MOST_CASCADES or metadata ~= '' then
            return nil
        end
        abandoned[#abandoned + 1] = name
        return 'abandoned', '', seq, '{"reason":"unless"}'
    end
    if is_ready then
        scheduled[#scheduled + 1] = name
        texts[name] = #body + 2
        return 'scheduled', after(now, RESEND_AFTER), seq, metadata
    end
    return 'unstarted', '', '', metadata
end

-- An instance that waits takes the firing; false if that is not for this script to say.
local function take(task, name)
    local text = redis.call('HGET', head .. ':b', name)
    local status, taken, changed_at, _, _, _, attempt, token, told, metadata, result, rest =
        string.match(text, lines)
    local held = taken == '{}' and {} or cjson.decode(taken)
    local due_at, decided_by
    status, due_at, decided_by, metadata = settle(task, name, held, metadata)
    if not status then
        return false
    end
    closed[#closed + 1] = {task.name, name}
    if status ~= 'unstarted' then
        changed_at = now
        for _, other in ipairs(task.others) do
            if not held[other.name] then
                closed[#closed + 1] = {other.name, name}
            end
        end
    end
    taken = string.sub(taken, 1, -2) .. (taken == '{}' and '' or ',') .. task.entry .. seq .. '}'
    body[#body + 1] = name
    body[#body + 1] = table.concat({status, taken, changed_at, due_at, decided_by, depth,
        attempt, token, told, metadata, result, rest}, '\n')
    return true
end

-- A new instance begins with the firing, and with what was fired before.
local function create(task, count)
    local name = task.task .. '#' .. count
    local held, taken = {}, task.entry .. seq .. '}'
    for _, other in ipairs(task.others) do
        local last = 0
        for _, field in ipairs(other.fields) do
            last = math.max(last, tonumber(known[first_field + field] or 0))
        end
        if last > 0 then
            if other.is_outcome then
                return false  -- the lineage that it comes from must be told
            end
            held[other.name] = true
            taken = other.entry .. last .. ',' .. taken
        end
    end
    local status, due_at, decided_by, metadata = settle(task, name, held, '')
    if not status then
        return false
    end
    if status == 'unstarted' then
        for _, other in ipairs(task.others) do
            if not held[other.name] then
                opened[#opened + 1] = {other.name, name}
            end
        end
    end
    created[#created + 1] = name
    fields[#fields + 1] = slice.fields[task.count]
    fields[#fields + 1] = count + 1
    body[#body + 1] = name
    body[#body + 1] = table.concat({status, '{' .. taken, now, due_at, decided_by, depth,
        0, '', '', metadata, '', now, count, '0\n0\n\n\n\n'}, '\n')
    return true
end

local waiting = {}  -- numbers by trigger and task
for _, task in ipairs(slice.tasks) do
    local count = tonumber(known[first_field + task.count] or 0)
    local numbers
    if count > 0 then
        local by_task = waiting[task.name]
        if not by_task then
            by_task = {}
            for _, name in ipairs(redis.call('SMEMBERS', head .. ':w:' .. task.name)) do
                local its_task, its_number = string.match(name, '^(.*)#(%d+)$')
                by_task[its_task] = by_task[its_task] or {}
                table.insert(by_task[its_task], tonumber(its_number))
            end
            waiting[task.name] = by_task
        end
        numbers = by_task[task.task]
    end
    if numbers then
        table.sort(numbers)
        for _, its_number in ipairs(numbers) do
            if not take(task, task.task .. '#' .. its_number) then
                return 'other'
            end
        end
    elseif (task.is_every or count == 0) and not create(task, count) then
        return 'other'
    end
end

-- Everything has been decided; from here on it is written.

local function write(verb, part, arguments)
    -- In portions, since Lua's stack is bounded.
    for start = 1, #arguments, 1000 do
        redis.call(verb, head .. part, unpack(arguments, start, math.min(start + 999, #arguments)))
    end
end

body[#body + 1] = seq
body[#body + 1] = now .. '\n' .. ARGV[5]
for _, field in ipairs(slice.passed or {}) do
    fields[#fields + 1] = field
    fields[#fields + 1] = seq
end
local last = seq
for _, name in ipairs(abandoned) do
    local outcome = string.match(name, '^(.*)#') .. ':abandoned'
    last = last + 1
    body[#body + 1] = last
    body[#body + 1] = table.concat({now, cjson.encode(outcome), '', cjson.encode(name), '', '',
        '{"reason":"unless"}'}, '\n')
    fields[#fields + 1] = 'l:' .. outcome
    fields[#fields + 1] = last
end

for _, value in ipairs({'seq', last, 'clock', now, 'rev', tonumber(known[1]) + 1}) do
    fields[#fields + 1] = value
end
write('HSET', '', fields)
write('HSET', ':b', body)
for _, each in ipairs(closed) do
    redis.call('SREM', head .. ':w:' .. each[1], each[2])
end
for _, each in ipairs(opened) do
    redis.call('SADD', head .. ':w:' .. each[1], each[2])
end
if ARGV[7] ~= '' then
    redis.call('HSET', head .. ':k', ARGV[7], seq)
end
if finished then
    redis.call('SREM', head .. ':a', finishing)
    redis.call('ZREM', bucket .. 'due', member .. ' i:' .. finishing)
end
for _, name in ipairs(scheduled) do
    redis.call('SADD', head .. ':a', name)
    redis.call('ZADD', bucket .. 'due', after(now, RESEND_AFTER), member .. ' i:' .. name)
end

local answer = {'done', now, seq, #created, #scheduled, #abandoned}
for _, name in ipairs(created) do
    answer[#answer + 1] = name
end
for _, name in ipairs(scheduled) do
    answer[#answer + 1] = name
    answer[#answer + 1] = body[texts[name]]
end
for _, name in ipairs(abandoned) do
    answer[#answer + 1] = name
end
answer[#answer + 1] = finished
return note_answer(client, number, table.concat(answer, '\0'))
