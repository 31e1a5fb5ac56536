"""The look of penny's pages: one style sheet inside the page, no script, no image, readable in lynx and on a phone.

Colours have a contrast of 4.5:1 or more against their background in both schemes (WCAG 2.1, 1.4.3).
"""
from __future__ import annotations

from html import escape

STYLE = """
:root{color-scheme:light dark;--text:#1d232a;--soft:#55606b;--line:#d5dbe1;--back:#fbfaf7;--card:#fff;--link:#0b5394;\
--bad:#a32014;--mark:#8a5a00}
@media(prefers-color-scheme:dark){:root{--text:#e4e7ea;--soft:#a3adb8;--line:#39424c;--back:#15191e;--card:#1c2229;\
--link:#8ab8ee;--bad:#ff9c8f;--mark:#e6b450}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:46rem;padding:1.2rem 1rem 4rem;background:var(--back);color:var(--text);\
font:1rem/1.55 Georgia,'Times New Roman',serif}
a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}
a:focus-visible{outline:2px solid var(--link);outline-offset:2px}
header{border-bottom:3px double var(--line);margin-bottom:1.4rem;padding-bottom:.6rem}
h1{font-size:1.9rem;line-height:1.2;margin:.2rem 0}h2{font-size:1.2rem;margin:2rem 0 .4rem;\
border-bottom:1px solid var(--line)}h3{font-size:1.05rem;line-height:1.35;margin:0}
nav,.soft,time,footer,table{font-family:system-ui,sans-serif;font-size:.85rem;color:var(--soft)}
nav a{margin-right:1rem}article{margin:.9rem 0}article p{margin:.15rem 0 0}
.bad{color:var(--bad)}.mark{color:var(--mark)}
.note{background:var(--card);border:1px solid var(--line);border-radius:.4rem;padding:.7rem 1rem;margin:1rem 0}
progress{width:100%;accent-color:var(--link)}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem .3rem 0;vertical-align:top;\
border-bottom:1px solid var(--line);overflow-wrap:anywhere}
footer{margin-top:3rem;border-top:1px solid var(--line);padding-top:.6rem}
@media print{nav,footer{display:none}body{max-width:none}}
"""


def page(title: str, body: str, refresh: int = 0) -> str:
    """A whole HTML page. `title` is text; `body` is HTML whose texts are escaped already; with `refresh` the browser
    asks again after so many seconds."""
    again = '<meta http-equiv="refresh" content="%d">' % refresh if refresh else ""
    return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">%s<title>%s</title><style>%s</style>'
            "</head>\n<body>\n%s\n</body></html>\n" % (again, escape(title), STYLE, body))


def link(url: str, text: str) -> str:
    """A link to another site, or the bare text when there is no address. `url` has a scheme that was checked."""
    if not url:
        return escape(text)
    return '<a href="%s" rel="noopener noreferrer">%s</a>' % (escape(url), escape(text))
