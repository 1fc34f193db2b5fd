"""The local pages for work on data and answers: look, review, compare, chat. `kollm app DIR` opens them.

Plain pages of a Starlette server: what gradio cannot do is a link to a row, one key a decision, a page that holds its
layout at 390 px, and 150,000 rows of which a page loads twenty.
"""
