/* SPDX-License-Identifier: BSD-2-Clause */
/* SPDX-FileCopyrightText: The Bulkhead authors */

/* What a partition has printed, and what the hypervisor has: as a whole for programs and for a
 * terminal that does not answer, by the page for one that does, or followed. */

#include "core/log.h"
#include "lib/string.h"
#include "monitor/command.h"

#define CHUNK        512 /* bytes of a ring in one step */
#define PAGE_ROWS    23
#define PAGE_COLUMNS 80
#define MORE         "--More-- (space: page, Enter: line, q: quit)"

/* Programs get line feeds alone. */
static size_t drop_returns(char *text, size_t size)
{
    size_t kept = 0;

    for (size_t i = 0; i < size; i++) {
        if (text[i] != '\r')
            text[kept++] = text[i];
    }
    return kept;
}

static size_t read_console(struct request *request, char *to, size_t size)
{
    struct vm *vm = request->vm;
    u64 before = request->position;
    size_t count;

    spin_lock(&vm->lock);
    count = console_read(&vm->console, &request->position, to, size);
    spin_unlock(&vm->lock);
    if (request->option && request->position - count > before)
        output_line(&request->output, "\r\n[%lu bytes dropped]",
                    request->position - count - before);
    return count;
}

static size_t read_ring(struct request *request, char *to, size_t size)
{
    if (request->position >= request->end)
        return 0;
    if (request->vm != NULL)
        return read_console(request, to, size);
    size = log_read(&request->position, to, size);
    return request->output.json ? drop_returns(to, size) : size;
}

static bool quits(const struct request *request)
{
    return request->key == 'q' || request->key == 'Q';
}

/* ---- by the page ---- */

static bool page_full(const struct request *request)
{
    return request->page.row >= PAGE_ROWS;
}

/* How many of the bytes fit on the page. */
static size_t fit(struct request *request, const char *text, size_t size)
{
    struct page *page = &request->page;
    size_t count = 0;

    for (; page->on && count < size && !page_full(request); count++) {
        bool printable = (u8)text[count] >= ' ';

        if (printable && page->column == PAGE_COLUMNS) {
            page->column = 0;
            if (++page->row == PAGE_ROWS)
                break;
        }
        page->column = text[count] == '\r' ? 0 : page->column + printable;
        page->row += text[count] == '\n';
    }
    return page->on ? count : size;
}

static void write_text(struct request *request, const char *text)
{
    request->output.write(request->output.context, text, strlen(text));
}

static void turn_page(struct request *request)
{
    char blanks[sizeof(MORE)];

    snprintf(blanks, sizeof(blanks), "%*s", (int)sizeof(MORE) - 1, "");
    write_text(request, "\r");
    write_text(request, blanks);
    write_text(request, "\r");
    request->page.waiting = false;
    request->page.row = request->key == '\r' || request->key == '\n' ? PAGE_ROWS - 1 : 0;
}

/* True when it waits for a key. */
static bool wait_for_key(struct request *request)
{
    if (!request->page.waiting) {
        write_text(request, MORE);
        request->page.waiting = true;
    } else if (quits(request)) {
        turn_page(request);
        request->end = 0;
        return false;
    } else if (request->key != 0) {
        turn_page(request);
        return false;
    }
    return true;
}

/* ---- the commands ---- */

static void begin(struct request *request)
{
    static const struct column column = {"Name", "name", VALUE_TEXT};

    output_begin(&request->output);
    if (request->output.json && request->vm != NULL)
        output_field(&request->output, &column, (struct value){.text = request->vm->config.name});
    output_text_open(&request->output, "log");
    request->begun = true;
}

static enum progress end(struct request *request)
{
    output_text_close(&request->output);
    if (request->vm != NULL)
        output_line(&request->output, "%s", "");
    output_end(&request->output);
    return COMMAND_DONE;
}

static enum progress show_ring(struct request *request)
{
    enum progress more = request->option ? COMMAND_LIVE : COMMAND_MORE;
    char chunk[CHUNK];
    size_t size, taken;

    if (page_full(request) && wait_for_key(request))
        return COMMAND_LIVE;
    if (request->option && quits(request))
        return end(request);
    size = read_ring(request, chunk, sizeof(chunk));
    if (size == 0)
        return request->option ? COMMAND_LIVE : end(request);
    taken = output_text(&request->output, chunk, fit(request, chunk, size),
                        request->vm == NULL || request->position >= request->end);
    request->position -= size - taken;
    return more;
}

static enum progress run_ring(struct request *request)
{
    enum answer answer = ANSWER_NO;

    if (request->begun)
        return show_ring(request);
    if (!request->output.json && !request->option)
        answer = monitor_ask_terminal();
    if (answer == ANSWER_AWAITED)
        return COMMAND_LIVE;
    request->page.on = answer == ANSWER_YES;
    begin(request);
    return COMMAND_MORE;
}

enum progress run_log(struct request *request)
{
    if (request->option && request->output.json)
        return request_fail(request, "-f is for people: it cannot be JSON");
    if (request->step == 0)
        request->end = request->option ? UINT64_MAX : request->vm->console.written;
    return run_ring(request);
}

enum progress run_dmesg(struct request *request)
{
    if (request->step == 0)
        request->end = UINT64_MAX;
    return run_ring(request);
}
