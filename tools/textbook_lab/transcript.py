"""What the lab says: each command as it would be typed, what it answered, and the grade that comes of it."""
import os

from lab import LabError

WIDTH = 88     # of a check's text where two stand side by side


class Transcript:
    def __init__(self):
        self.grade, self.phases = [], []      # (text, good), (name, seconds)

    def title(self, text):
        print('\n==== %s' % text, flush=True)

    def remark(self, text):
        """What happens without anybody typing it."""
        print('(%s)' % text, flush=True)

    def typed(self, machine, command, answer=''):
        print('%s# %s' % (getattr(machine, 'name', machine), command.replace('\n', '\n> ')))
        self.answer(answer)

    def answer(self, text):
        text = text.rstrip()
        print('    ' + text.replace('\n', '\n    ') if text else '', end='\n' if text else '', flush=True)

    def type(self, machine, command, check=True, bound=120, show=True):
        self.typed(machine, command)
        done = machine.run(command, check=False, bound=bound)
        if show:
            self.answer(done.stdout + done.stderr)
        if check and done.returncode:
            raise LabError('%s: "%s" failed (%d)' % (machine.name, command, done.returncode))
        return done

    def edit(self, machines, path, text):
        """The same file on all of `machines`."""
        for machine in machines:
            os.makedirs(os.path.dirname(machine.path(path)), exist_ok=True)
            with open(machine.path(path), 'w') as out:
                out.write(text)
        names = [machine.name for machine in machines]
        self.typed(names[0], 'cat >%s <<END%s' % (path, '' if len(names) == 1 else '        (and on %s)' % ', '.join(names[1:])))
        self.answer(text)
        print('END', flush=True)

    def check(self, text, good, why=''):
        self.grade.append((text, bool(good)))
        print('%s: %s%s' % (word(good), text, ' (%s)' % why if why and not good else ''), flush=True)

    def phase(self, name, seconds):
        self.phases.append((name, seconds))
        print('    [%s: %.1f s]' % (name, seconds), flush=True)

    def show_grade(self, of):
        self.title('Grade: ' + of)
        for text, good in self.grade:
            print('%-8s %s' % (word(good), text))
        print()
        for name, seconds in self.phases:
            print('%7.1f s  %s' % (seconds, name))
        good = [good for _, good in self.grade]
        print('\n%d of %d checks succeeded' % (sum(good), len(good)), flush=True)
        return all(good)


def word(good):
    return 'SUCCESS' if good else 'FAIL'


def show_side_by_side(names, transcripts):
    print('\n==== Side by side\n%-*s %s' % (WIDTH, '', '  '.join('%10s' % name for name in names)))
    for tables in ([{text: word(good) for text, good in t.grade} for t in transcripts],
                   [{name: '%.1f s' % seconds for name, seconds in t.phases} for t in transcripts]):
        for line in dict.fromkeys(line for table in tables for line in table):
            print('%-*s %s' % (WIDTH, line[:WIDTH], '  '.join('%10s' % table.get(line, '-') for table in tables)))
    print(flush=True)
