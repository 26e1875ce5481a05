/* SPDX-License-Identifier: MPL-2.0 */
#include "client/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "lib/base/fs.h"

static struct {
	int pipe[2];
	volatile sig_atomic_t caught, interrupts, window, ended;
	volatile sig_atomic_t guarded;
	int terminal;
	struct termios cooked, raw;
} state = { .pipe = { -1, -1 } };

static void
wake(void)
{
	int saved = errno;

	if (write(state.pipe[1], "", 1) < 0) {
		/* a full pipe is readable already */
	}
	errno = saved;
}

static void
on_interrupt(int signo)
{
	(void)signo;
	if (++state.interrupts > 1) {
		if (state.guarded)
			tcsetattr(state.terminal, TCSADRAIN, &state.cooked);
		_exit(130);
	}
	wake();
}

static void
on_window(int signo)
{
	(void)signo;
	state.window = 1;
	wake();
}

static void
on_end(int signo)
{
	state.ended = signo;
	wake();
}

static void
on_fatal(int signo)
{
	if (state.guarded)
		tcsetattr(state.terminal, TCSANOW, &state.cooked);
	signal(signo, SIG_DFL);
	raise(signo);
}

static void
on_stop(int signo)
{
	int saved = errno;

	(void)signo;
	if (state.guarded)
		tcsetattr(state.terminal, TCSANOW, &state.cooked);
	raise(SIGSTOP);
	if (state.guarded)
		tcsetattr(state.terminal, TCSANOW, &state.raw);
	errno = saved;
}

static void catch (int signo, void (*handler)(int))
{
	struct sigaction action = { .sa_handler = handler };

	sigemptyset(&action.sa_mask);
	sigaction(signo, &action, NULL);
}

static void
open_pipe(void)
{
	if (state.caught)
		return;
	if (fs_pipe(state.pipe) < 0 || !fs_unblock(state.pipe[0]) || !fs_unblock(state.pipe[1]))
		abort(); /* no descriptor left in a program that has opened three */
	state.caught = 1;
}

void
signals_catch_interrupt(void)
{
	open_pipe();
	catch (SIGINT, on_interrupt);
}

void
signals_catch_window(void)
{
	open_pipe();
	catch (SIGWINCH, on_window);
}

void
signals_catch_end(void)
{
	open_pipe();
	catch (SIGINT, SIG_IGN);
	catch (SIGQUIT, SIG_IGN);
	catch (SIGTERM, on_end);
	catch (SIGHUP, on_end);
}

int
signals_ended(void)
{
	return (int)state.ended;
}

unsigned
signals_interrupts(void)
{
	return (unsigned)state.interrupts;
}

bool
signals_window_changed(void)
{
	bool changed = state.window != 0;

	state.window = 0;
	return changed;
}

int
signals_fd(void)
{
	return state.pipe[0];
}

void
signals_drain(void)
{
	char space[64];

	while (state.caught && read(state.pipe[0], space, sizeof(space)) > 0)
		;
}

static void
restore_at_exit(void)
{
	if (state.guarded)
		tcsetattr(state.terminal, TCSADRAIN, &state.cooked);
}

void
signals_guard_terminal(int fd, const struct termios *cooked, const struct termios *raw)
{
	static const int fatal[] = { SIGHUP, SIGTERM, SIGQUIT, SIGINT, SIGPIPE, SIGALRM, SIGABRT,
		SIGSEGV, SIGBUS };

	state.terminal = fd;
	state.cooked = *cooked;
	state.raw = *raw;
	state.guarded = 1;
	for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
		catch (fatal[i], on_fatal);
	catch (SIGTSTP, on_stop);
	atexit(restore_at_exit);
}

void
signals_unguard_terminal(void)
{
	state.guarded = 0;
	catch (SIGTSTP, SIG_DFL);
}
