"""Plain charts as SVG text, without any library: bars of ratios and curves. Readable on light and dark pages alike."""
import math
from xml.sax.saxutils import escape

OURS, THEIRS, GRID, TEXT = '#2a78b8', '#c0504d', '#8888', '#777'
FONT = 'font-family="sans-serif" font-size="12" fill="%s"' % TEXT
COLOURS = (OURS, THEIRS, '#6a9f3c', '#9467bd', '#d18f20', '#17a2a8')


def text(x, y, what, anchor='start', more=''):
    return '<text x="%.1f" y="%.1f" text-anchor="%s" %s %s>%s</text>' % (x, y, anchor, FONT, more, escape(what))


def line(x1, y1, x2, y2, colour=GRID, width=1, more=''):
    return '<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="%s" %s/>' % (x1, y1, x2, y2, colour, width, more)


def page(width, height, parts):
    return '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d">\n%s\n</svg>\n' % (
        width, height, width, height, '\n'.join(parts))


def _short(value):
    return '%.0f' % value if abs(value) >= 100 else '%.3g' % value


def ratio_bars(title, rows):
    """rows: (label, ratio, aim or None). One bar a row on a logarithmic axis; 1 is where both are equal, right is better."""
    height, left, width = 22, 330, 860
    ratios = [r for _, r, aim in rows] + [aim for _, _, aim in rows if aim] + [0.5, 2]
    low, high = math.log(min(ratios) * 0.8), math.log(max(ratios) * 1.3)
    def x(ratio):
        return left + (math.log(ratio) - low) / (high - low) * (width - left - 60)
    parts = [text(10, 20, title, more='font-weight="bold"')]
    bottom = 40 + height * len(rows)
    for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100):
        if low <= math.log(tick) <= high:
            parts.append(line(x(tick), 34, x(tick), bottom, more='' if tick == 1 else 'stroke-dasharray="2,3"'))
            parts.append(text(x(tick), bottom + 15, '%g' % tick, 'middle'))
    for number, (label, ratio, aim) in enumerate(rows):
        y = 40 + height * number
        parts.append(text(left - 8, y + 14, label, 'end'))
        begin, end = sorted((x(1), x(ratio)))
        parts.append('<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>' % (
            begin, y + 3, max(end - begin, 1), height - 7, OURS if ratio >= 1 else THEIRS))
        if aim:
            parts.append(line(x(aim), y + 1, x(aim), y + height - 2, TEXT, 2))
        parts.append(text(max(x(ratio), x(1)) + 6, y + 14, _short(ratio)))
    parts.append(text(left, bottom + 32, 'tdbmesh / CTDB, above 1 is better; upright mark: the aim'))
    return page(width, bottom + 42, parts)


def curves(title, x_label, y_label, series, log_x=True, log_y=True):
    """series: {name: [(x, y) or (x, y, low, high)]}."""
    width, height, left, bottom, top = 640, 360, 70, 310, 40
    points = [p for values in series.values() for p in values]
    def axis(values, log, begin, end):
        values = [v for v in values if not log or v > 0]
        low, high = (min(values) * 0.8, max(values) * 1.25) if log else (0, max(values) * 1.1 or 1)
        if log:
            scale = lambda v: begin + (math.log(max(v, low)) - math.log(low)) / (math.log(high) - math.log(low)) * (end - begin)
            ticks = [m * 10.0 ** e for e in range(-7, 10) for m in ((1,) if high / low > 300 else (1, 2, 5))]
        else:
            scale = lambda v: begin + (v - low) / (high - low) * (end - begin)
            step = 10.0 ** math.floor(math.log10(high / 2))
            step *= next(m for m in (1, 2, 5, 10) if high / (step * m) <= 6)
            ticks = [step * i for i in range(0, 12)]
        return scale, [t for t in ticks if low <= t <= high]
    x, x_ticks = axis([p[0] for p in points], log_x, left, width - 20)
    y, y_ticks = axis([v for p in points for v in p[1:]], log_y, bottom, top)
    parts = [text(10, 20, title, more='font-weight="bold"'), text((left + width) / 2, height - 8, x_label, 'middle'),
             text(0, 0, y_label, 'middle', 'transform="translate(14 %d) rotate(-90)"' % ((top + bottom) / 2))]
    for tick in x_ticks:
        parts += [line(x(tick), top, x(tick), bottom, more='stroke-dasharray="2,3"'), text(x(tick), bottom + 16, '%g' % tick, 'middle')]
    for tick in y_ticks:
        parts += [line(left, y(tick), width - 20, y(tick), more='stroke-dasharray="2,3"'), text(left - 6, y(tick) + 4, '%g' % tick, 'end')]
    for number, (name, values) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = ' '.join('%.1f,%.1f' % (x(p[0]), y(p[1])) for p in sorted(values))
        parts.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>' % (path, colour))
        for p in values:
            if len(p) == 4:
                parts.append(line(x(p[0]), y(p[2]), x(p[0]), y(p[3]), colour))
            parts.append('<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>' % (x(p[0]), y(p[1]), colour))
        parts.append('<rect x="%d" y="%d" width="12" height="12" fill="%s"/>' % (left + 10, top + 6 + 18 * number, colour))
        parts.append(text(left + 28, top + 17 + 18 * number, name))
    return page(width, height, parts)
