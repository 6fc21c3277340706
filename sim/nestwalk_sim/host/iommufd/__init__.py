"""Today's interface for user space (iommufd): objects by number, address spaces, page tables of host and guests,
devices attached to them, faults and events handed back.
"""
