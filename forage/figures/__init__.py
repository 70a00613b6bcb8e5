"""Charts as plotly figures; `charts` has what all of them share. How a page is put together belongs in `pages`."""
