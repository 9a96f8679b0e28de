"""Pictures to look at: skin that scatters light, soft shadows, wet eyes. Not differentiable.

`render/` is what photos are fitted with; its cost and its gradients do not depend on this package.
"""
