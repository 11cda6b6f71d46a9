-- Decide and commit a plain firing, or the finish of an attempt with the firing that it brings.
--
-- ARGV[1]  client, ARGV[2] number of its commit, ARGV[3] '1' if this may be a repetition
-- ARGV[4]  the present in microseconds; empty: the server's
-- ARGV[5]  the firing, without its time
-- ARGV[6]  how many firings the session may have recorded before; empty: any number
-- ARGV[7]  field of the idempotency key; empty: none
-- ARGV[8]  of an attempt that finishes, in lines: its token, its result, metadata to add, all JSON;
--          and the instance. Empty: this is a firing from outside
-- ARGV[9]  and all that follow: the slice of the compiled configuration that concerns this trigger:
--          its digest; '1' if time plays a part in it; who has taken the outcome, as JSON; how many
--          fields of the head are to be read; how many are to get the sequence number; these, and
--          those; and of each task what is read below. See slices.py.
--
-- This says in Lua what triggers/engine/rules.py says in Python, for tasks whose conditions are
-- lists of names. Whatever is not plain is answered with 'other' before anything is written: then
-- the engine decides. 'stale' and a digest: the session has another configuration. Otherwise
-- 'done', the time, the sequence number, and what has become of which instances: '+' and the name
-- of one that was created, '!' and of one that was scheduled, followed by its text, '-' and of one
-- that was abandoned, and '=' and the text of the one that has finished.
--
-- Every microsecond here is waited for by all who use the server. So there are few tables and
-- functions, which would have to be collected; and numbers stay text where nobody counts.

local ARGV, call = ARGV, redis.call
local match, find, sub = string.match, string.find, string.sub

local client, number = ARGV[1], ARGV[2]
if ARGV[3] == '1' then
    local known = answer_again(client, number)
    if known then
        return known
    end
end

local finishing = ARGV[8] ~= ''
local first_set = 14
local first_read = first_set + ARGV[13]
local first_task = first_read + ARGV[12]
local known = call('HMGET', head, 'rev', 'version', 'phase', 'seq', 'clock', 'digest',
    unpack(ARGV, first_read, first_task - 1))
local goes_on = known[3] == 'open' or known[3] == 'closed' and finishing
local rev = client .. ':' .. number
if known[1] == rev then
    return 'late'  -- its repetition, on another connection, was faster
end
if not known[1] or tonumber(known[2]) > NEWEST_VERSION or not goes_on then
    return 'other'
end
if (known[6] or '') ~= ARGV[9] then
    return 'stale\0' .. (known[6] or '')
end
local now = present(ARGV[4], known[5])
local last = known[4] + 1
local seq = tostring(last)
if ARGV[6] ~= '' and last > tonumber(ARGV[6]) then
    return 'other'
end
if ARGV[7] ~= '' and call('HEXISTS', head .. ':k', ARGV[7]) == 1 then
    return 'other'
end
if ARGV[10] == '1' then
    local timer = call('ZRANGE', head .. ':timers', 0, 0, 'WITHSCORES')
    if timer[2] and tonumber(timer[2]) <= tonumber(now) then
        return 'other'
    end
end

local depth = '0'
local body = {seq, now .. '\n' .. ARGV[5]}    -- instances and firings, to be written
local fields = {}                             -- of the head, to be written
local moves = {}                              -- SADD or SREM, a part of the session, an instance
local answer = {'done', now, seq}
local due                                     -- when recovery looks at what is scheduled
local scheduled, abandoned, finished, ended

if finishing then
    local token, result, metadata
    token, result, metadata, finished = match(ARGV[8], '^([^\n]*)\n([^\n]*)\n([^\n]*)\n(.*)$')
    local text = call('HGET', head .. ':b', finished)
    if not text then
        return 'other'
    end
    -- An instance's lines: those that are looked at here, and the rest (see records.py).
    local status, taken, decided_by, led_by, attempt, its_token, told, its_metadata, rest = match(
        text,
        '^(%l+)\n([^\n]*)\n[^\n]*\n[^\n]*\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n'
            .. '([^\n]*)\n[^\n]*\n(.*)$'
    )
    local lineage = match(rest, '^%d+\n(%d+)\n')
    if status ~= 'running' or its_token ~= token or tonumber(led_by) >= MOST_CASCADES
        or told ~= '' or lineage ~= match(finished, '%d+$')
        or its_metadata ~= '' and metadata ~= ''
    then
        return 'other'
    end
    depth = tostring(led_by + 1)
    local before = 'finished\n' .. taken .. '\n' .. now .. '\n\n' .. decided_by .. '\n' .. led_by
        .. '\n' .. attempt .. '\n\n' .. ARGV[11] .. '\n' .. its_metadata .. metadata .. '\n'
    body[3], body[4] = finished, before .. result .. '\n' .. rest
    -- The worker knows the result; it need not be sent back.
    ended = '=' .. before .. '\n' .. rest
end

local waiting  -- numbers by trigger and task

-- The instances of a task that wait for a name, oldest first; nothing if there are none.
local function waiting_for(task, name)
    waiting = waiting or {}
    local by_task = waiting[name]
    if not by_task then
        by_task = {}
        for _, each in ipairs(call('SMEMBERS', head .. ':w:' .. name)) do
            local its_task, its_number = match(each, '^(.*)#(%d+)$')
            local numbers = by_task[its_task]
            if numbers then
                numbers[#numbers + 1] = tonumber(its_number)
            else
                by_task[its_task] = {tonumber(its_number)}
            end
        end
        waiting[name] = by_task
    end
    local numbers = by_task[task]
    if numbers and numbers[2] then
        table.sort(numbers)
    end
    return numbers
end

while ARGV[first_task] do
    -- A task; the name under which it hears of the firing, and what it takes it as; where the
    -- number of its instances is; '1' if the name is its andEvery; whether it can be abandoned,
    -- and whether that is 'heard'; and three arguments for each other name that it listens to.
    local task, name, entry = ARGV[first_task], ARGV[first_task + 1], ARGV[first_task + 2]
    local place, barring = tonumber(ARGV[first_task + 3]), ARGV[first_task + 5]
    local count = tonumber(known[6 + place] or 0)
    local numbers = count > 0 and waiting_for(task, name)
    local is_new = not numbers and (count == 0 or ARGV[first_task + 4] == '1')
    local first_other = first_task + 7
    first_task = first_other + 3 * ARGV[first_task + 6]

    for turn = 1, numbers and #numbers or is_new and 1 or 0 do
        -- What is held so far, as JSON with a comma in front of each; and other lines.
        local instance, held, changed_at, attempted, metadata, rest
        if is_new then
            -- A new instance begins with the firing, and with what was fired before.
            instance = task .. '#' .. count
            held, changed_at, attempted, metadata = '', now, '0\n\n\n', ''
            rest = '\n\n' .. now .. '\n' .. count .. '\n0\n0\n\n\n\n'
            for other = first_other, first_task - 3, 3 do
                local latest = 0
                for field in string.gmatch(ARGV[other + 2], '%d+') do
                    latest = math.max(latest, tonumber(known[6 + field] or 0))
                end
                if latest > 0 then
                    if sub(ARGV[other + 2], 2, 2) == 'o' then
                        return 'other'  -- the lineage that it comes from must be told
                    end
                    held = ARGV[other + 1] .. latest .. held
                end
            end
            answer[#answer + 1] = '+' .. instance
            fields[#fields + 1] = ARGV[first_read + place - 1]
            fields[#fields + 1] = count + 1
        else
            instance = task .. '#' .. numbers[turn]
            held, changed_at, attempted, metadata, rest = match(
                call('HGET', head .. ':b', instance),
                '^%l+\n{([^\n]*)}\n(%d+)\n[^\n]*\n[^\n]*\n[^\n]*\n([^\n]*\n[^\n]*\n[^\n]*\n)'
                    .. '([^\n]*)(\n.*)$'
            )
            if held ~= '' then
                held = ',' .. held
            end
        end

        -- A name is never found within another one: a quotation mark in one has a backslash.
        local is_ready, is_barred = true, barring ~= ''
        for other = first_other, first_task - 3, 3 do
            if not find(held, ARGV[other + 1], 1, true) then
                local role = sub(ARGV[other + 2], 1, 1)
                is_ready = is_ready and role ~= 'n' and role ~= 'x'
                is_barred = is_barred and role ~= 'b' and role ~= 'x'
            end
        end
        local status, due_at, decided_by = 'unstarted', '', ''
        if is_barred then
            if barring == 'heard' or tonumber(depth) >= MOST_CASCADES or metadata ~= '' then
                return 'other'
            end
            status, decided_by, metadata = 'abandoned', seq, '{"reason":"unless"}'
        elseif is_ready then
            due = due or after(now, RESEND_AFTER)
            status, due_at, decided_by = 'scheduled', due, seq
        end
        local is_decided = status ~= 'unstarted'
        if is_decided then
            changed_at = now
        end
        local text = status .. '\n{' .. sub(held .. entry .. seq, 2) .. '}\n' .. changed_at
            .. '\n' .. due_at .. '\n' .. decided_by .. '\n' .. depth .. '\n' .. attempted
            .. metadata .. rest
        body[#body + 1] = instance
        body[#body + 1] = text
        if is_ready and not is_barred then
            scheduled = scheduled or {}
            scheduled[#scheduled + 1] = instance
            answer[#answer + 1] = '!' .. instance
            answer[#answer + 1] = text
        elseif is_decided then
            abandoned = abandoned or {}
            abandoned[#abandoned + 1] = instance
            answer[#answer + 1] = '-' .. instance
        end

        -- Who waits from now on, and who no more.
        if not is_new then
            moves[#moves + 1] = 'SREM'
            moves[#moves + 1] = name
            moves[#moves + 1] = instance
        end
        if is_new ~= is_decided then
            local verb = is_new and 'SADD' or 'SREM'
            for other = first_other, first_task - 3, 3 do
                if not find(held, ARGV[other + 1], 1, true) then
                    moves[#moves + 1] = verb
                    moves[#moves + 1] = ARGV[other]
                    moves[#moves + 1] = instance
                end
            end
        end
    end
end

-- Everything has been decided; from here on it is written.

for _, name in ipairs(abandoned or {}) do
    local outcome = match(name, '^(.*)#') .. ':abandoned'
    last = last + 1
    body[#body + 1] = last
    body[#body + 1] = table.concat({now, cjson.encode(outcome), '', cjson.encode(name), '', '',
        '{"reason":"unless"}'}, '\n')
    fields[#fields + 1] = 'l:' .. outcome
    fields[#fields + 1] = last
end
for index = first_set, first_read - 1 do
    fields[#fields + 1] = ARGV[index]
    fields[#fields + 1] = seq
end

-- In portions, since Lua's stack is bounded.
local from, upto = 1, #fields
while upto - from >= 1000 do
    call('HSET', head, unpack(fields, from, from + 999))
    from = from + 1000
end
call('HSET', head, 'seq', abandoned and last or seq, 'clock', now, 'rev', rev,
    unpack(fields, from, upto))
from, upto = 1, #body
while upto - from >= 1000 do
    call('HSET', head .. ':b', unpack(body, from, from + 999))
    from = from + 1000
end
call('HSET', head .. ':b', unpack(body, from, upto))
for index = 1, #moves, 3 do
    call(moves[index], head .. ':w:' .. moves[index + 1], moves[index + 2])
end
if ARGV[7] ~= '' then
    call('HSET', head .. ':k', ARGV[7], seq)
end
if finished then
    call('SREM', head .. ':a', finished)
    call('ZREM', bucket .. 'due', member .. ' i:' .. finished)
    answer[#answer + 1] = ended
end
for _, name in ipairs(scheduled or {}) do
    call('SADD', head .. ':a', name)
    call('ZADD', bucket .. 'due', due, member .. ' i:' .. name)
end
return note_answer(client, number, table.concat(answer, '\0'))
