"""The cards of data sets, adapters and the lab's base, as the hub reads them: templates (.md) and what fills them.

A notebook that makes or scores something writes its card anew when it ends, so that none says more than what is there.
"""
