"""The page: results as one HTML file that answers their question like a short paper.

mlxtrace.report(result, "out.html")        # or of a list of results: python -m mlxtrace.patch ... --report out.html
"""
