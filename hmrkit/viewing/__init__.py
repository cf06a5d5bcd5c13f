"""Looking at a take: a page served on this machine (`server`), or one file that needs neither server nor network.

`clip` collects what is to be seen, `evidence` how sure it is, `against` a second take for it; `page` packs it into the
file, whose own small WebGL program (``page_*.js``) skins and calibrates the bodies in the browser: 24 rotations a frame
instead of 6890 vertices.
"""
