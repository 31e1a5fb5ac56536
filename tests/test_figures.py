from __future__ import annotations

import json

from penny.core import figures
from penny.core.figures import Figures


def test_the_text():
    found = Figures()
    found.count("rss_feeds", "Feeds asked.", outcome="read")
    found.count("rss_feeds", "Feeds asked.", 2, outcome="failed")
    found.set("offset_seconds", 'Offset, "now"\nand \\ then.', 0.25)
    assert found.render() == (
        "# TYPE offset_seconds gauge\n"
        '# HELP offset_seconds Offset, \\"now\\"\\nand \\\\ then.\n'
        "offset_seconds 0.25\n"
        "# TYPE rss_feeds counter\n# HELP rss_feeds Feeds asked.\n"
        'rss_feeds_total{outcome="failed"} 2\nrss_feeds_total{outcome="read"} 1\n# EOF\n')


def test_figures_of_several_services_stand_together_once():
    one, other = Figures(), Figures()
    one.set("http_connections", "Open.", 1)
    other.set("http_connections", "Open.", 2)
    travelled = json.loads(json.dumps(other.snapshot()))
    text = figures.render({"rss": one.snapshot(), "digest": travelled})
    assert text.count("# TYPE http_connections") == 1
    assert 'http_connections{service="digest"} 2\nhttp_connections{service="rss"} 1\n' in text
    assert text.endswith("# EOF\n") and text.count("# EOF") == 1


def test_label_values_cannot_break_out_or_grow_without_end():
    found = Figures()
    found.count("x", "X.", host='a"} 1\nevil 2')
    assert '{host="a\\"} 1\\nevil 2"}' in found.render()
    for number in range(figures.MAX_SERIES + 100):
        found.count("y", "Y.", host=str(number))
    assert found.render().count("y_total{") == figures.MAX_SERIES
