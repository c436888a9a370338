"""What the lab says: each command as it would be typed, what it answered, and the grade that comes of it."""
import os
import statistics

from lab import LabError

WIDTH = 88     # of a check's text where two stand side by side


class Transcript:
    def __init__(self):
        self.grade, self.phases = {}, {}      # {text: good in each round}, {name: [seconds]}

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
        self.grade[text] = self.grade.get(text, True) and bool(good)
        print('%s: %s%s' % (word(good), text, ' (%s)' % why if why and not good else ''), flush=True)

    def phase(self, name, seconds):
        self.phases.setdefault(name, []).append(seconds)
        print('    [%s: %s]' % (name, in_words([seconds])), flush=True)

    def show_grade(self, of):
        self.title('Grade: ' + of)
        for text, good in self.grade.items():
            print('%-8s %s' % (word(good), text))
        repeated = max(len(seconds) for seconds in self.phases.values()) > 1 if self.phases else False
        print('\nWhat it took%s' % (' (median / worst of the rounds)' if repeated else ''))
        for name, seconds in self.phases.items():
            print('%*s  %s' % (21 if repeated else 9, in_words(seconds), name))
        good = list(self.grade.values())
        print('\n%d of %d checks succeeded' % (sum(good), len(good)), flush=True)
        return all(good)


def word(good):
    return 'SUCCESS' if good else 'FAIL'


def in_words(seconds):
    if len(seconds) == 1:
        return '%.2f s' % seconds[0] if seconds[0] < 2 else '%.1f s' % seconds[0]
    return '%s / %s (%d)' % (in_words([statistics.median(seconds)]), in_words([max(seconds)]), len(seconds))


def show_side_by_side(names, transcripts):
    grades = [{text: word(good) for text, good in t.grade.items()} for t in transcripts]
    phases = [{name: in_words(seconds) for name, seconds in t.phases.items()} for t in transcripts]
    column = max(len(cell) for table in grades + phases for cell in [*table.values(), *names])
    print('\n==== Side by side\n%-*s %s' % (WIDTH, '', '  '.join('%*s' % (column, name) for name in names)))
    for tables in (grades, phases):
        for line in dict.fromkeys(line for table in tables for line in table):
            print('%-*s %s' % (WIDTH, line[:WIDTH], '  '.join('%*s' % (column, table.get(line, '-')) for table in tables)))
    print(flush=True)
