"""One evaluation: selected, asked, scored, summarised."""
