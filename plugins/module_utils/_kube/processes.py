# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How processes of a container are ended so that process 1 never takes one over that we have signalled.

If PostgreSQL is process 1, it takes an orphan that ends by a signal, or with a status other than 0 or 1, for a backend
that has crashed: it drops every connection and runs crash recovery. So no process is signalled that has a child. It is
decided in the container itself, with nothing but a shell and /proc/<pid>/stat
(https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html), so that what is left alone there can do it, too.
"""

from __future__ import annotations

# Functions that every script needs of a `Shell`, and for what it leaves behind.
#
# runbook_nap SECONDS N   Sleeps, and sets $napped to the hundredths of a second that it took: N, or 100 where sleep
#                         knows no fractions. Bounds count these, and ask no clock, which may be set meanwhile.
# runbook_is_child PID P  Whether this process runs, and P is its parent: a number that is used again is no match.
# runbook_look PID...     Sets $living to these processes and all below them that run, $dead to those that their parents
#                         have not buried yet, and $leaves to those of the living that have no child, not even a dead
#                         one. With through=shells, only shells are looked through: a program minds its own children.
# runbook_ask SIGNAL PID  Asks a program to end. Of a shell's pipeline the programs are asked, since they would not end
#                         with the shell, and then such shells as catch the signal. Others end with their programs.
# runbook_end PID...      Ends processes by force, the youngest first. Who starts children faster than that is stopped,
#                         and ended if its children then end by themselves.
# runbook_end_soon PID    The same, unless it has ended by itself in three seconds.
FUNCTIONS = r"""
runbook_pause() { { sleep "$1" || sleep 1; } 2>/dev/null; }
runbook_nap() { { sleep "$1" && napped=$2 || { sleep 1; napped=100; }; } 2>/dev/null; }
runbook_is_child() {
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    case $line in *') '*) ;; *) kill -0 "$1" 2>/dev/null; return ;; esac
    line=${line##*) }
    case $line in [ZX]*) return 1 ;; esac
    line=${line#* }
    [ "${line%% *}" = "$2" ]
}
runbook_look() {
    table= shells=' ' family=" $* " size= parents=' ' living=' ' dead=' ' leaves=
    for file in /proc/[0-9]*/stat; do
        { read -r line <"$file"; } 2>/dev/null || continue
        case $line in *') '*) ;; *) continue ;; esac
        pid=${line%% *} name=${line#*(} rest=${line##*) }
        state=${rest%% *} rest=${rest#* }
        table="$table $pid:${rest%% *}:$state"
        case ${name%)*} in sh | ash | bash | dash | busybox) shells="$shells$pid " ;; esac
    done
    until [ "$size" = "${#family}" ]; do
        size=${#family}
        for entry in $table; do
            pid=${entry%%:*} parent=${entry#*:}
            parent=${parent%:*}
            case $family in *" $pid "*) continue ;; *" $parent "*) ;; *) continue ;; esac
            case $through$shells in all* | *" $parent "*) family="$family$pid " ;; esac
        done
    done
    for entry in $table; do
        pid=${entry%%:*} parent=${entry#*:}
        parent=${parent%:*}
        case $family in *" $pid "*) parents="$parents$parent " ;; *) continue ;; esac
        case $entry in *[ZX]) dead="$dead$pid " ;; *) living="$living$pid " ;; esac
    done
    for pid in $living; do
        case $parents in *" $pid "*) ;; *) leaves="$leaves $pid" ;; esac
    done
}
runbook_kill() { for pid in $2; do kill -s "$1" "$pid" 2>/dev/null; done; }
runbook_catches() {
    bit=1
    until [ "$(kill -l "$bit")" = "$1" ] || [ "$bit" -gt 30 ]; do bit=$((bit + 1)); done
    while read -r key mask; do
        [ "$key" = SigCgt: ] && return "$((~(0x0${mask#????????} >> (bit - 1)) & 1))"
    done
    return 1
}
runbook_ask() (
    through=shells
    runbook_look "$2"
    runbook_kill "$1" "$leaves"
    runbook_pause 0.1
    for shell in $living; do
        case " $leaves " in *" $shell "*) continue ;; esac
        { runbook_catches "$1" <"/proc/$shell/status"; } 2>/dev/null && kill -s "$1" "$shell"
    done
    exit 0
)
runbook_end() (
    through=all round=0
    while runbook_look "$@" && [ "$living" != ' ' ] && [ "$round" -lt 60 ]; do
        round=$((round + 1))
        if [ "$round" -gt 20 ] && [ $((round % 2)) = 0 ]; then
            runbook_kill STOP "$*"
            before=$dead
            runbook_pause 0.1
            runbook_look "$@"
            for pid in $dead; do
                case $before in *" $pid "*) living= ;; esac
            done
            if [ "$living" = " $* " ]; then runbook_kill KILL "$*"; else runbook_kill CONT "$*"; fi
        else
            runbook_kill KILL "$leaves"
        fi
        runbook_pause 0.05
    done
    exit 0
)
runbook_end_soon() (
    through=all round=0
    while runbook_look "$1" && [ "$living" != ' ' ] && [ "$round" -lt 6 ]; do
        round=$((round + 1))
        runbook_pause 0.5
    done
    runbook_end "$1"
)
"""
