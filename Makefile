# What can be made of the book. Everything is one command, written out here; "make" alone makes the pages.

.PHONY: book pdf pictures test derived

book:       ## the pages, at _build/html/index.html
	jupyter-book build .

pdf:        ## the book as one PDF, printed by Chromium
	python book/tools/pdf.py book.pdf

pictures:   ## the README's pictures, of pages that are built already
	python book/tools/pictures.py _build/html

test:       ## the unit tests, and every notebook, cell by cell
	pytest

derived:    ## what is stored but made from other files of the tree, made again
	python book/tools/editions.py
	python book/tools/instructor.py
	python book/tools/chapter_map.py
	python book/tools/cover.py
	python benchmarks/results_page.py
	python benchmarks/scaling_page.py
